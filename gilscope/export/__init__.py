"""A trace in the forms that other tools read: one file a form. docs/export.md describes them."""
