import { CORS_REFUSED, type Failure } from "../failure.ts";

const PROBE_TIMEOUT = 5_000;

export interface CorsOptions {
  path?: string;
  withCredentials?: boolean;
  extraHeaders?: Record<string, string>;
}

/**
 * Returns a failure if the server answers but the browser hides its answers from this page.
 * Browsers report this to scripts like an unreachable server. A request without CORS distinguishes
 * the two. It opens no session, because its query names no transport.
 */
export async function corsFailure(uri: string, { path = "", withCredentials, extraHeaders }: CorsOptions): Promise<Failure | undefined> {
  const url = new URL(path, uri.replace(/^ws/, "http"));
  const origin = globalThis.location?.origin;
  // Outside browsers, and at the server's own origin, CORS does not apply.
  if (!origin || origin === url.origin) return undefined;
  const credentials = withCredentials ? "include" : "omit";
  const isAnswered = (mode: RequestMode, headers = {}) =>
    fetch(url, { mode, credentials, headers, signal: AbortSignal.timeout(PROBE_TIMEOUT) }).then(
      () => true,
      () => false,
    );
  if (!(await isAnswered("no-cors")) || (await isAnswered("cors", extraHeaders))) return undefined;
  return { code: CORS_REFUSED, message: `${url.origin} does not allow requests from ${origin}` };
}
