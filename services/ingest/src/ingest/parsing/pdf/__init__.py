"""Reader of PDF by pdfium."""
