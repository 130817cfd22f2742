"""Recognises text on pictures and scanned pages, through the tesseract engine inside xberg."""
