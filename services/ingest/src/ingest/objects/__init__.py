"""Raw bytes of documents: in a local folder or in an S3 bucket."""
