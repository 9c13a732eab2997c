// Certificates for tests, and their authorities.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { temporary } from "./support.mjs";

/**
 * Creates a certificate for these names, and returns the files of the certificate, its key and its
 * authority. They are valid for `days`.
 */
export function vouched(names = "DNS:localhost", { days = 1 } = {}) {
  const folder = temporary();
  const [ca, caKey, key, request, cert] = ["ca.pem", "ca.key", "key.pem", "request.pem", "cert.pem"].map((name) => join(folder, name));
  const openssl = (...args) => execFileSync("openssl", args, { stdio: "ignore" });
  const fresh = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl("req", "-x509", ...fresh, "-days", "1", "-keyout", caKey, "-out", ca, "-subj", "/CN=somebody");
  openssl("req", ...fresh, "-keyout", key, "-out", request, "-subj", "/CN=localhost", "-addext", `subjectAltName=${names}`);
  openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", caKey, "-CAcreateserial", "-days", String(days), "-copy_extensions", "copy", "-out", cert);
  return { ca, key, cert };
}
