"""The role ``deliver``: sends what the topics say to other systems, as signed HTTP requests."""
