"""Wikipedia: from a subject to its article, and from an article to how often it was read."""
