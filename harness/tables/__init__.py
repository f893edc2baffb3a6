"""Numbers in words, and tables as data with their renderers; knows nothing of what is shown."""
