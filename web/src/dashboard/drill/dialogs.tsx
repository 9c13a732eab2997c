import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { Window } from "../../windows/window.tsx";

/** Asks for a confirmation. */
export function Confirm({ title, act, onClose, onConfirm, children }: { title: string; act: string; onClose: () => void; onConfirm: () => void; children: ComponentChildren }) {
  return (
    <Window title={title} onClose={onClose}>
      {children}
      <div class="dialog-actions">
        <button class="button" type="button" onClick={onClose}>
          Cancel
        </button>
        <button
          class="button button-bad"
          type="button"
          onClick={() => {
            onClose();
            onConfirm();
          }}
        >
          {act}
        </button>
      </div>
    </Window>
  );
}

/** The durations of a block, in seconds. */
const LASTING = [
  ["1 hour", 3_600],
  ["1 day", 86_400],
  ["30 days", 2_592_000],
  ["permanently", undefined],
] as const;

interface BlockProps {
  /** The address to block, or `undefined` if the admin types it. */
  address: string | undefined;
  onClose: () => void;
  onConfirm: (cidr: string, reason: string, seconds: number | undefined) => void;
}

/** Asks for the reason and the duration of a block, and for the network if it is not known. */
export function BlockDialog({ address, onClose, onConfirm }: BlockProps) {
  const [cidr, setCidr] = useState(address ?? "");
  const [reason, setReason] = useState("");
  const [choice, setChoice] = useState(0);
  const [isWrong, setIsWrong] = useState(false);
  return (
    <Window title="Block an address" onClose={onClose}>
      <form
        class="form"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          if (reason.trim() === "" || cidr.trim() === "") return setIsWrong(true);
          onClose();
          onConfirm(cidr.trim(), reason.trim(), LASTING[choice]?.[1]);
        }}
      >
        {address === undefined ? (
          <>
            <label for="block-cidr">Address or network</label>
            <input id="block-cidr" type="text" value={cidr} maxLength={64} autocomplete="off" spellcheck={false} aria-describedby="block-cidr-help" aria-invalid={isWrong && cidr.trim() === ""} onInput={(event) => setCidr(event.currentTarget.value)} />
            <p id="block-cidr-help" class="help">
              Such as 192.0.2.7 or 192.0.2.0/24. It is blocked on all servers.
            </p>
          </>
        ) : (
          <p>
            <bdi class="strong">{address}</bdi> will be blocked on all servers, for all users behind this address. That may include you.
          </p>
        )}
        <label for="block-reason">Reason</label>
        <input id="block-reason" type="text" dir="auto" value={reason} maxLength={200} autocomplete="off" aria-describedby="block-help" aria-invalid={isWrong && reason.trim() === ""} onInput={(event) => setReason(event.currentTarget.value)} />
        <p id="block-help" class={isWrong ? "help is-wrong" : "help"} aria-live="polite">
          {isWrong ? (reason.trim() === "" ? "Enter a reason. Other admins see it." : "Enter an address or a network.") : "Shown to other admins."}
        </p>
        <label for="block-lasting">For how long</label>
        <select id="block-lasting" value={String(choice)} onChange={(event) => setChoice(Number(event.currentTarget.value))}>
          {LASTING.map(([name], index) => (
            <option key={name} value={String(index)}>
              {name}
            </option>
          ))}
        </select>
        <div class="dialog-actions">
          <button class="button" type="button" onClick={onClose}>
            Cancel
          </button>
          <button class="button button-bad" type="submit">
            Block
          </button>
        </div>
      </form>
    </Window>
  );
}
