-- What was agreed to, and with whom: texts of host platforms have names of their own, and an attestation is of one session.

-- A platform's version never stands for a text of ours, nor the other way about.
alter table consent_text drop constraint consent_text_pkey;
alter table consent_text add primary key (tenant_id, source, version);

-- Whose text was answered to: somebody may take back in the call what their platform attested.
alter table consent add column text_of text not null default 'turnpike' check (text_of in ('turnpike', 'platform'));
update consent c set text_of = 'platform' where c.given_by = 'platform' or exists (
  select from consent_text t
  where t.tenant_id = c.tenant_id and t.version = c.text_version and t.source = 'platform');

-- Of which session; null: taken before this was kept.
alter table consent_attestation add column session_id bigint;
