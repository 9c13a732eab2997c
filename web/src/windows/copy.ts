/**
 * Copies a text to the clipboard. Returns whether that succeeded: insecure pages have no clipboard,
 * and the user may have forbidden it.
 */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
