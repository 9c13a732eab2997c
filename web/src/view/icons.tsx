/** Outlines on a grid of 24 by 24. */
const paths = {
  send: "M4 12 20 4l-5 16-3.5-6.5zM11.5 13.5 20 4",
  people: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c.4-3.6 3-5.5 6.5-5.5s6.1 1.9 6.5 5.5M16 4.3a3.5 3.5 0 0 1 0 6.4M18 14.9c2 .8 3.2 2.5 3.5 5.1",
  sun: "M12 16.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM12 2v2M12 20v2M4.9 4.9l1.4 1.4M17.7 17.7l1.4 1.4M2 12h2M20 12h2M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z",
  down: "M12 5v14M6 13l6 6 6-6",
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6 6 18",
  plus: "M12 5v14M5 12h14",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.5 15.5 20 20",
  check: "M5 12.5l4.5 4.5L19 7.5",
  checks: "M2 12.5l4.5 4.5L15 8M11.5 16l1 1L21 8",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3.5 2",
  alert: "M12 8v5M12 16.5v.1M12 3 2.5 20h19z",
  info: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5.5M12 7.6v.1",
  pencil: "M4 20l1-4.5L16.5 4l3.5 3.5L8.5 19z",
  link: "M10 14a4 4 0 0 0 6 .5l3-3a4 4 0 0 0-6-6l-1.5 1.5M14 10a4 4 0 0 0-6-.5l-3 3a4 4 0 0 0 6 6l1.5-1.5",
  bell: "M6 16V11a6 6 0 0 1 12 0v5l1.5 2h-15zM10 20.5h4",
  mute: "M6 16V11a6 6 0 0 1 12 0v5l1.5 2h-15zM4 4l16 17",
  chart: "M4 19h16M6 15l4-5 4 3 5-7",
  reply: "M10 6 4 12l6 6M4 12h9a7 7 0 0 1 7 7",
  pin: "M9 4h6l-1 6 3 3H7l3-3zM12 13v7",
  out: "M10 4H5v16h5M10 12h10M16 8l4 4-4 4",
} as const;

export type IconName = keyof typeof paths;

/**
 * An icon without a text alternative: its button or text provides it. Parts that are loaded later
 * may have outlines of their own.
 */
export function Icon({ name }: { name: IconName | `M${string}` }) {
  return (
    <svg viewBox="0 0 24 24" class="icon" aria-hidden="true">
      <path d={paths[name as IconName] ?? name} />
    </svg>
  );
}
