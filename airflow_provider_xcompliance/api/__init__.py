"""
X's batch compliance API over HTTP: jobs as JSON, ids up, results down, as opaque bytes.

``endpoints``, ``uploads`` and ``downloads`` are the protocol without I/O: they prepare requests and digest
answers. ``urls`` decides where a packet may go. ``transport`` is the only module that opens a connection,
and ``client`` joins them. Nothing here knows Airflow, or what the bytes mean.
"""
