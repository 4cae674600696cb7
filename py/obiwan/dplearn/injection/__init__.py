"""Injection of model objects into released coadds, as the pipeline would leave them there."""
