"""What models cost: their sizes, and operations by formula."""
