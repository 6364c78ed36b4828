"""A server for scoring scripts with the contract of azureml-inference-server-http."""

# The release of azureml-inference-server-http whose contract this is.
__version__ = "1.5.1"
