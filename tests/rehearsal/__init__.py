"""``docker-compose.yml`` brought up without a container engine: ``make rehearse``.

Compose's own loader reads the file. Its services run as processes in network and mount namespaces
of their own, with the users, capabilities, read-only roots, volumes and names that the file gives
them. Signed traffic goes in through Caddy by TLS while every service is killed once and restarted
once; the figures in ClickHouse are compared with what was sent. ``faults.py`` brings about what
happens to deployments instead, and ``practice.py`` lets somebody find and mend it.

Invariants:
1. What a container would get comes from the loaded file; what its image would give (program,
   environment, user) from ``image.py``, which says where it stands for another program.
2. Everything happens in namespaces of the run's own, which end with it: it changes nothing on the
   machine, and two runs don't meet.
3. Without root, or with a program missing, it fails with the reason. It never skips.

Not shown: the images themselves; access control by a ClickHouse server, its cluster and its own
metrics; Grafana and the Kafka console; limits of memory and CPU; ways out to the internet; Docker's
log driver.
"""
