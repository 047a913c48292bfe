"""HTTP listeners of all roles, with limits.

``bounded`` limits what a connection may send, for the ingress too. For all other listeners,
``places`` decides which connections stay (pure), ``protocol`` applies that, ``server`` serves.
"""
