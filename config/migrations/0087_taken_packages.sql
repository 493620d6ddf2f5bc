-- What was added without a look at the rows there were, so that nobody had to wait: looked at now, in a transaction of its
-- own, beside which sessions read and write. Every row has been written under it since.
alter table session_package validate constraint session_package_taken;
