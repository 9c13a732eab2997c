/**
 * Characters that UTS #39 lists as confusable with a full stop, a slash or a colon, and dots that
 * look like one.
 */
const LOOKALIKES: readonly (readonly [RegExp, string])[] = [
  [/[\u00b7\u0660\u06f0\u0701\u0702\u16eb\u2022\u2024\u2027\u2219\u22c5\u3002\u30fb\ua4f8\ua60e\uff0e\uff61\uff65\u{10a50}\u{1d16d}]/gu, "."],
  [/[\u1735\u2041\u2044\u2215\u2571\u27cb\u29f8\u2cc6\u2f03\u3033\u30ce\u31d3\u4e3f\uff0f\u{1d23a}]/gu, "/"],
  [/[\u02d0\u02f8\u0589\u05c3\u0703\u0704\u0903\u0a83\u16ec\u1803\u1809\u205a\u2236\ua4fd\ua789\ufe30\uff1a]/gu, ":"],
];

/**
 * Characters of little or no width, which could hide a full stop or a host from the patterns below.
 */
const UNSEEN = /[\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cf}\u00a0\u1680\u2000-\u200a\u202f\u205f\u2800\u3000]/gu;

/**
 * Matches addresses and hosts in a label, each with its path, so that a path is not read as a host.
 * First addresses with a scheme or two slashes, then bare hosts: an IP address, or a name whose
 * last part may be a top-level domain.
 */
const CLAIMS =
  /(?:(?<![a-z\d+.-])(?:(?:https?|ftps?|wss?):[\\/]*|[a-z][a-z\d+.-]*:[\\/]+)|[\\/]{2})([^\s\\/?#]+)\S*|(?<![\p{L}\p{N}\p{M}._-])\.?((?:\d{1,3}(?:\.\d{1,3}){3}|(?:[\p{L}\p{N}\p{M}_-]+\.)+\p{L}[\p{L}\p{N}\p{M}-]+)(?::\d{1,5})?)(?:[\\/?#]\S*)?/giu;

/**
 * Returns the host to show beside a link, in ASCII (`xn--…`) as the browser contacts it. Returns
 * `undefined` if the label names no host or exactly this one. A host in other letters counts as
 * another host, even if a browser treats them as equal.
 */
export function hiddenHost(label: string, href: string): string | undefined {
  const { protocol, host } = new URL(href);
  const isTarget = (claim: string) => {
    const address = `${protocol}//${claim}`;
    return /^[!-~]+$/.test(claim) && !claim.includes("@") && URL.canParse(address) && new URL(address).host === host;
  };
  for (const [, authority, name] of folded(label).matchAll(CLAIMS)) {
    const claim = authority?.replace(/[.,;:!?'")}]+$/, "") ?? name;
    if (claim !== undefined && claim !== "" && !isTarget(claim)) return host;
  }
  return undefined;
}

/**
 * Returns the label as it looks: without invisible characters, and with lookalikes replaced. Two
 * dots end a name.
 */
function folded(label: string): string {
  let text = label.replace(UNSEEN, "").normalize("NFKC");
  for (const [pattern, plain] of LOOKALIKES) text = text.replace(pattern, plain);
  return text.replace(/\.{2,}/g, " ");
}
