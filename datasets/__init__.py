"""Images to LMDB in the Datum form that Caffe's Data layer reads."""
