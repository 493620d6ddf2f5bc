-- How far the end of a recording that is expired or erased has come: each step once, and none in the way of another's.
alter table recording
  -- From then on nobody can read it, whatever is left of its objects.
  add column key_destroyed_at timestamptz,
  -- From then on nothing of it is in the store.
  add column swept_at timestamptz,
  -- When it was last tried. Those longest untried come first: one whose objects are locked for years holds up no other.
  add column end_tried_at timestamptz;
create index recording_ending on recording (end_tried_at nulls first, id)
  where state in ('expired', 'erased') and swept_at is null;
