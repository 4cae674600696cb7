"""Training sets for other tools: HATS catalogues (Parquet) and WebDataset archives, bit for bit.

Imports `obiwan.dplearn.trainingset` and `obiwan.dplearn.files`.
"""
