"""The one way in which every listener but the ingress's own serves HTTP, and what it refuses.

``places`` decides (pure), ``protocol`` applies it to uvicorn, ``server`` binds and serves.
"""
