"""What people look at and type into."""
