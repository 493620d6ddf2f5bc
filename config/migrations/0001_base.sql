-- Roles, tenants, users, and the helpers that make row-level security one line a table.

-- The application's role: it serves, and neither owns nor deletes. The embedded server has made it already; elsewhere
-- the migrating role makes it when it may, else an administrator does, once.
do $$
begin
  if not exists (select from pg_roles where rolname = 'turnpike_app') then
    begin
      create role turnpike_app nologin;
    exception
      when duplicate_object then null;  -- another database of this server was migrated at the same moment
      when insufficient_privilege then
        raise exception 'role turnpike_app is missing and % may not create it', current_user
          using hint = 'as an administrator: create role turnpike_app; grant turnpike_app to ' || quote_ident(current_user);
    end;
  end if;
  -- Where one login both migrates and serves, it changes into turnpike_app to serve.
  if not pg_has_role(current_user, 'turnpike_app', 'SET') then
    begin
      execute format('grant turnpike_app to %I', current_user);
    exception when insufficient_privilege then null;  -- then the application has a login of its own
    end;
  end if;
end $$;

revoke create on schema public from public;
grant usage on schema public to turnpike_app;
grant select on schema_migration to turnpike_app;

-- Whether the current transaction is for tenant t. No tenant set: null, so nothing is visible.
create function tenant_visible(t bigint) returns boolean
  language sql stable parallel safe
  return current_setting('turnpike.tenant', true) in ('*', t::text);

-- Row-level security for a table with a tenant_id, for its owner too. The application may then read, add and change
-- rows, but not delete them; a migration takes away what its table must not allow:
--   select enable_tenant_rls('transfer'); revoke update on transfer from turnpike_app;
create function enable_tenant_rls(target regclass) returns void
  language plpgsql as $$
begin
  execute format('alter table %s enable row level security', target);
  execute format('alter table %s force row level security', target);
  execute format('create policy tenant_rows on %s using (tenant_visible(tenant_id)) with check (tenant_visible(tenant_id))', target);
  execute format('grant select, insert, update on %s to turnpike_app', target);
end $$;
revoke execute on function enable_tenant_rls(regclass) from public;

create table tenant (
  id bigint generated always as identity primary key,
  public_id text not null unique,
  name text not null unique,
  hosts text[] not null default '{}',
  created_at timestamptz not null default now()
);
alter table tenant enable row level security;
alter table tenant force row level security;
create policy tenant_rows on tenant using (tenant_visible(id)) with check (tenant_visible(id));
grant select on tenant to turnpike_app;

insert into tenant (public_id, name) values ('ten_00000000000000000000', 'default');

create table app_user (
  id bigint generated always as identity,
  tenant_id bigint not null references tenant,
  public_id text not null unique,
  email text not null check (length(email) between 3 and 254),
  name text not null check (length(name) between 1 and 200),
  role text not null check (role in ('client', 'provider', 'compliance', 'finance', 'admin')),
  password_hash text not null,
  currency char(3) not null default 'USD',
  headline text,
  avatar_hue int check (avatar_hue between 0 and 359),
  created_at timestamptz not null default now(),
  disabled_at timestamptz,
  primary key (tenant_id, id)
);
create unique index app_user_email on app_user (tenant_id, lower(email));
select enable_tenant_rls('app_user');
