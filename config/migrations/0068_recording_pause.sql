-- Until when a recording is paused: pages count down to it, and a room that moves pauses for what is left of it.
alter table session add column recording_paused_until_ms bigint;
