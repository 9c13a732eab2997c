// Creates valid and forged tokens, without the library that the server uses.
import { createHmac, createSign, generateKeyPairSync, sign as signRaw } from "node:crypto";

export const SECRET = "a secret of at least thirty-two bytes, for tests";

export const now = () => Math.floor(Date.now() / 1000);

const part = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

/**
 * Returns a token with exactly this header and these claims, signed with HMAC, by default of
 * SHA-256.
 */
export function forge(header, claims, secret = SECRET, hash = "sha256") {
  const message = `${part(header)}.${part(claims)}`;
  return `${message}.${createHmac(hash, secret).update(message).digest("base64url")}`;
}

/** Returns a valid token, except for these claims, secret and header. */
export const token = (claims = {}, secret = SECRET, header = {}) =>
  forge({ alg: "HS256", typ: "JWT", ...header }, { sub: "ann", exp: now() + 3600, ...claims }, secret);

/** Returns a key pair, its public half as a JWK, and a function for tokens signed with it. */
export function pair(algorithm, kid) {
  const [kind, options] = {
    RS256: ["rsa", { modulusLength: 2048 }],
    PS384: ["rsa", { modulusLength: 2048 }],
    ES256: ["ec", { namedCurve: "P-256" }],
    EdDSA: ["ed25519", {}],
  }[algorithm];
  const { privateKey, publicKey } = generateKeyPairSync(kind, options);
  const jwk = { ...publicKey.export({ format: "jwk" }), kid, alg: algorithm, use: "sig" };
  const signature = (message) => {
    if (algorithm === "EdDSA") return signRaw(null, Buffer.from(message), privateKey);
    const hash = `RSA-SHA${algorithm.slice(2)}`;
    if (algorithm.startsWith("ES")) {
      return createSign("sha256").update(message).sign({ key: privateKey, dsaEncoding: "ieee-p1363" });
    }
    const pss = { key: privateKey, padding: 6, saltLength: Number(algorithm.slice(2)) / 8 };
    return createSign(hash).update(message).sign(algorithm.startsWith("PS") ? pss : privateKey);
  };
  const token = (claims = {}, header = {}) => {
    const head = { alg: algorithm, kid, ...header };
    const message = `${part(head)}.${part({ sub: "ann", exp: now() + 3600, ...claims })}`;
    return `${message}.${signature(message).toString("base64url")}`;
  };
  return { jwk, publicKey, token };
}
