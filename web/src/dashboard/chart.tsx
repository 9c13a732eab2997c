import { type Point, type Value, pathOf, roundUp } from "./figures.ts";

/** The time span of a chart in milliseconds. */
const SPAN = 300_000;
/** Time without figures after which a line is interrupted, in milliseconds. */
const GAP = 10_000;
const WIDTH = 600;
const HEIGHT = 140;

export interface Line {
  name: string;
  valueOf: (point: Point) => number | undefined;
}

/** A chart of the last five minutes. */
export function Chart({ title, points, lines, inWords }: { title: string; points: readonly Point[]; lines: readonly Line[]; inWords: (value: number) => string }) {
  const to = points.at(-1)?.at ?? 0;
  const drawn = lines.map(({ name, valueOf }) => ({ name, values: points.map((point): Value => ({ at: point.at, value: valueOf(point) })) }));
  const known = drawn.flatMap(({ values }) => values.flatMap(({ value }) => value ?? []));
  const top = roundUp(Math.max(0, ...known));
  const frame = { from: to - SPAN, to, top, width: WIDTH, height: HEIGHT };
  const summaries = drawn.map(({ name, values }) => {
    const last = values.at(-1)?.value;
    const most = Math.max(0, ...values.map(({ value }) => value ?? 0));
    return last === undefined ? `${name} not known yet` : `${name} ${inWords(last)} now, at most ${inWords(most)}`;
  });
  return (
    <figure class="chart">
      <figcaption>
        <h2>{title}</h2>
        <ul class="legend">
          {drawn.map(({ name, values }, index) => {
            const last = values.at(-1)?.value;
            return (
              <li key={name}>
                <svg viewBox="0 0 22 6" aria-hidden="true">
                  <path class={`line line-${index}`} d="M0 3L22 3" />
                </svg>
                {name} <strong>{last === undefined ? "–" : inWords(last)}</strong>
              </li>
            );
          })}
        </ul>
      </figcaption>
      <div class="plot">
        <span class="axis axis-top" aria-hidden="true">
          {inWords(top)}
        </span>
        <span class="axis axis-bottom" aria-hidden="true">
          0
        </span>
        <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`The last five minutes: ${summaries.join("; ")}`}>
          {[0, HEIGHT / 2, HEIGHT].map((y) => (
            <path key={y} class="rule" d={`M0 ${y}L${WIDTH} ${y}`} />
          ))}
          {drawn.map(({ name, values }, index) => (
            <path key={name} class={`line line-${index}`} d={pathOf(values, frame, GAP)} />
          ))}
        </svg>
        <span class="axis axis-from" aria-hidden="true">
          5 min ago
        </span>
        <span class="axis axis-to" aria-hidden="true">
          now
        </span>
      </div>
    </figure>
  );
}
