"""The recorder's numbers for Prometheus."""

from __future__ import annotations

from config.metrics import counter, gauge

BYTES = counter("turnpike_recorder_bytes_total", "Bytes of segments stored, encrypted")
SEGMENTS = counter("turnpike_recorder_segments_total", "Segments stored")
PARTS = gauge("turnpike_recorder_parts", "Parts of recordings being worked on")
STUCK = gauge("turnpike_recorder_stuck_parts", "Parts that failed again and again, are tried still, and need a person")
LAG = gauge("turnpike_recorder_lag_seconds", "The most media of one recording that is in the spool only")
FINISHED = counter("turnpike_recorder_finished_total", "Parts of recordings completed, by state", ["state"])
FAILURES = counter("turnpike_recorder_failures_total", "Tries at a part of a recording that failed")
RETRIES = counter("turnpike_recorder_retries_total", "Tries that found PostgreSQL or the object store away", ["what"])
DIVERGED = counter("turnpike_recorder_diverged_total", "Streams muxed differently after a restart, and stored anew")
SPOOL_FREE = gauge("turnpike_recorder_spool_free_bytes", "Free disk under the spool")
SPOOL_LOW = gauge("turnpike_recorder_spool_low", "1 while there is too little free disk to begin new recordings")
GONE = counter("turnpike_recorder_gone_total", "Recordings deleted or erased, by state", ["state"])
JOBS = gauge("turnpike_recorder_jobs_running", "Exports, compositions and previews being made")
JOBS_DONE = counter("turnpike_recorder_jobs_total", "Processes that did a job, by how they ended", ["kind", "how"])
