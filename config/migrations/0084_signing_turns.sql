-- Recordings that cannot be signed hold up no other: who failed waits a while, and those longest untried come first.
alter table recording
  add column sign_tried_at timestamptz,
  -- Why it could not be signed then: told once, until the reason is another one.
  add column sign_failure text;
