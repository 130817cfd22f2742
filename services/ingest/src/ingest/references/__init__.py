"""Reads the content of uploads by reference: files, web servers, buckets."""
