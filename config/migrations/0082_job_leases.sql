-- Who works on a job: rises with each claim and never comes again, so a process that was given up changes nothing more.
alter table recording_job add column lease bigint not null default 0;
