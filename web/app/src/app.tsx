import { useTurnpike } from "@turnpike/react";
import type { Role } from "@turnpike/sdk";
import { lazy, Suspense, useEffect, type ComponentType } from "react";

import { t } from "./locale";
import { Desk } from "./pages/desk";
import { Providers } from "./pages/providers";
import { SessionPage } from "./pages/session";
import { SignIn } from "./pages/sign-in";
import { PastSessions } from "./pages/sessions";
import { WalletPage } from "./pages/wallet";
import { go, usePath } from "./router";
import { Button } from "./ui/button";
import { Empty, Skeleton } from "./ui/feedback";
import { Shell } from "./ui/shell";

const RecordingsPage = lazy(async () => ({ default: (await import("./pages/recordings")).RecordingsPage }));
const RecordingPage = lazy(async () => ({ default: (await import("./pages/recording")).RecordingPage }));
const AccessReportPage = lazy(async () => ({
  default: (await import("./pages/recording-accesses")).AccessReportPage,
}));
const DeletionsPage = lazy(async () => ({ default: (await import("./pages/recording-deletions")).DeletionsPage }));
const PoliciesPage = lazy(async () => ({ default: (await import("./pages/recording-policies")).PoliciesPage }));
const PlatformsPage = lazy(async () => ({ default: (await import("./pages/recording-platforms")).PlatformsPage }));
const FinancePage = lazy(async () => ({ default: (await import("./pages/finance")).FinancePage }));
const PastSession = lazy(async () => ({ default: (await import("./pages/past-session")).PastSession }));
const AdminPage = lazy(async () => ({ default: (await import("./pages/admin")).AdminPage }));

interface Route {
  pattern: RegExp;
  title: string;
  page: ComponentType<{ id: string }>;
  roles: readonly Role[];
}

const EVERYBODY: readonly Role[] = ["client", "provider", "compliance", "finance", "admin"];

const ARCHIVISTS: readonly Role[] = ["compliance", "admin"];

/** Which page a path shows, and to whom. */
const ROUTES: readonly Route[] = [
  { pattern: /^\/providers$/, title: t.nav.providers, page: Providers, roles: ["client"] },
  { pattern: /^\/desk$/, title: t.nav.desk, page: Desk, roles: ["provider"] },
  { pattern: /^\/session\/([^/]+)$/, title: t.call.region, page: SessionPage, roles: EVERYBODY },
  { pattern: /^\/sessions$/, title: t.nav.sessions, page: PastSessions, roles: EVERYBODY },
  { pattern: /^\/sessions\/([^/]+)$/, title: t.nav.sessions, page: PastSession, roles: EVERYBODY },
  { pattern: /^\/wallet$/, title: t.nav.wallet, page: WalletPage, roles: ["client", "provider"] },
  { pattern: /^\/recordings$/, title: t.nav.recordings, page: RecordingsPage, roles: ARCHIVISTS },
  { pattern: /^\/recordings\/accesses$/, title: t.reports.accessTitle, page: AccessReportPage, roles: ARCHIVISTS },
  { pattern: /^\/recordings\/deletions$/, title: t.reports.deletedTitle, page: DeletionsPage, roles: ARCHIVISTS },
  { pattern: /^\/recordings\/policies$/, title: t.policies.title, page: PoliciesPage, roles: ARCHIVISTS },
  { pattern: /^\/recordings\/platforms$/, title: t.platforms.title, page: PlatformsPage, roles: ["admin"] },
  { pattern: /^\/recordings\/([^/]+)$/, title: t.nav.recordings, page: RecordingPage, roles: ARCHIVISTS },
  { pattern: /^\/finance$/, title: t.finance.nav, page: FinancePage, roles: ["finance", "admin"] },
  { pattern: /^\/operations$/, title: t.nav.admin, page: AdminPage, roles: ["admin"] },
];

const HOME: Record<Role, string> = {
  client: "/providers",
  provider: "/desk",
  compliance: "/recordings",
  finance: "/finance",
  admin: "/operations",
};

export function App() {
  const client = useTurnpike();
  const path = usePath();
  const role = client.me?.user.role;

  useEffect(() => {
    if (role !== undefined && (path === "/" || path === "/sign-in")) go(HOME[role], true);
  }, [role, path]);

  const route = ROUTES.find((r) => r.pattern.test(path) && role !== undefined && r.roles.includes(role));
  useEffect(() => {
    document.title = route === undefined ? t.product : `${route.title} · ${t.product}`;
  }, [route]);

  if (role === undefined) return <SignIn />;
  const id = decodeURIComponent(route?.pattern.exec(path)?.[1] ?? "");
  const Page = route?.page;
  return (
    <Shell path={path} role={role}>
      <Suspense fallback={<Skeleton />}>
        {Page !== undefined ? (
          <Page key={id} id={id} />
        ) : path === "/" || path === "/sign-in" ? null : (
          <Empty
            icon="alert"
            title={t.common.unknownPage}
            action={<Button onClick={() => go("/")}>{t.common.home}</Button>}
          >
            {t.common.unknownPageHint}
          </Empty>
        )}
      </Suspense>
    </Shell>
  );
}
