"""A run seen while it goes on: what its folder says now (`view`), and a page on this machine alone that shows
it (`server`)."""
