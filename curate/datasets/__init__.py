"""Reading any QA dataset as a table of examples, and writing tables so that nothing is ever half there."""
