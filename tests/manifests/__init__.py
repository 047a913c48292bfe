"""What Kubernetes' extensions accept: ``keda.sh_scaledobjects.yaml`` is of the repository
kedacore/keda (Apache-2.0), ``config/crd/bases``, commit 8b4f083ca8c8 (v2.20, August 2026)."""
