man_pages =
