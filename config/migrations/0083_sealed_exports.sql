-- An export's documents (chat among them) are stored sealed with the recording's key, like a composition, and no longer in
-- the clear in its plan, which has names, sizes and checksums only.
alter table recording_product drop constraint recording_product_kind_check;
alter table recording_product add constraint recording_product_kind_check
  check (kind in ('side_by_side', 'speaker', 'audio', 'thumbnail', 'waveform', 'bundle'));
update recording_job set state = 'cancelled', failure = 'Ask for this export again.', plan = null, token_sha256 = null,
  finished_at = coalesce(finished_at, now())
  where kind = 'export' and state = 'done';
update recording_job set plan = null where plan is not null;
-- What was said and what happened is kept here until it is sealed and signed, and no longer.
update recording set story = null where story_key is not null;
-- Exports are there for a day.
create index recording_job_export on recording_job (finished_at) where kind = 'export' and state = 'done';
