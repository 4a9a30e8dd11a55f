"""What readers take away on paper: PDF files, laid out here and drawn by reportlab."""
