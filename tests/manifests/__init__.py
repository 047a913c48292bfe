"""What Kubernetes' extensions accept, as their repositories have it (Apache-2.0).

``keda.sh_…``: kedacore/keda, ``config/crd/bases``, commit 8b4f083ca8c8 (v2.20, August 2026).
``monitoring.coreos.com_…``: prometheus-operator/prometheus-operator,
``example/prometheus-operator-crd``, commit 6adcebc5076c (v0.93, August 2026).
"""
