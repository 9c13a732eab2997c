import { useState } from "preact/hooks";
import { type Value, pathOf, roundUp } from "./figures.ts";
import { clock } from "./words.ts";

const WIDTH = 600;
const HEIGHT = 140;

export interface Line<Point> {
  name: string;
  valueOf: (point: Point) => number | undefined;
}

/** The time that a chart shows. */
export interface Span {
  /** The span in milliseconds. */
  length: number;
  inWords: string;
  from: string;
  /** Time without figures after which a line is interrupted, in milliseconds. */
  gap: number;
  /** Returns the time of a point. */
  dateOf: (at: number) => Date;
}

/** Five minutes on the monotonic clock of the page. */
export const FIVE_MINUTES: Span = { length: 300_000, inWords: "five minutes", from: "5 min ago", gap: 10_000, dateOf: (at) => new Date(performance.timeOrigin + at) };
/** An hour on the clock of the servers. */
export const HOUR: Span = { length: 3_600_000, inWords: "hour", from: "1 h ago", gap: 3_600_000, dateOf: (at) => new Date(at) };

export interface ChartProps<Point> {
  title: string;
  points: readonly Point[];
  lines: readonly Line<Point>[];
  inWords: (value: number) => string;
  span?: Span;
}

/** A chart of the last minutes. Its values are shown where the pointer is, or by arrow keys. */
export function Chart<Point extends { at: number }>({ title, points, lines, inWords, span = FIVE_MINUTES }: ChartProps<Point>) {
  const to = points.at(-1)?.at ?? 0;
  const drawn = lines.map(({ name, valueOf }) => ({ name, values: points.map((point): Value => ({ at: point.at, value: valueOf(point) })) }));
  const known = drawn.flatMap(({ values }) => values.flatMap(({ value }) => value ?? []));
  const top = roundUp(Math.max(0, ...known));
  const frame = { from: to - span.length, to, top, width: WIDTH, height: HEIGHT };
  const summaries = drawn.map(({ name, values }) => {
    const last = values.at(-1)?.value;
    const most = Math.max(0, ...values.map(({ value }) => value ?? 0));
    return last === undefined ? `${name} not known yet` : `${name} ${inWords(last)} now, at most ${inWords(most)}`;
  });
  // The time stays the same while the chart moves on.
  const [chosen, setChosen] = useState<number>();
  const index = points.findIndex(({ at }) => at === chosen);
  const inValues = (index: number) => {
    const at = points[index]?.at;
    if (at === undefined) return "";
    const values = drawn.map(({ name, values }) => `${name} ${values[index]?.value === undefined ? "–" : inWords(values[index].value)}`);
    return `${clock.format(span.dateOf(at))}: ${values.join(", ")}`;
  };
  const marker = index < 0 ? undefined : ((points[index]?.at ?? to) - frame.from) * (WIDTH / span.length);
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
      <p class="readout" aria-hidden="true">
        {index < 0 ? "" : inValues(index)}
      </p>
      <div class="plot">
        <span class="axis axis-top" aria-hidden="true">
          {inWords(top)}
        </span>
        <span class="axis axis-bottom" aria-hidden="true">
          0
        </span>
        <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`The last ${span.inWords}: ${summaries.join("; ")}`}>
          {[0, HEIGHT / 2, HEIGHT].map((y) => (
            <path key={y} class="rule" d={`M0 ${y}L${WIDTH} ${y}`} />
          ))}
          {marker !== undefined && <path class="rule marker" d={`M${marker.toFixed(1)} 0V${HEIGHT}`} />}
          {drawn.map(({ name, values }, index) => (
            <path key={name} class={`line line-${index}`} d={pathOf(values, frame, span.gap)} />
          ))}
        </svg>
        {points.length > 0 && (
          <div
            class="probe"
            role="slider"
            tabIndex={0}
            aria-label={`Values of ${title}`}
            aria-valuemin={0}
            aria-valuemax={points.length - 1}
            aria-valuenow={index < 0 ? points.length - 1 : index}
            aria-valuetext={inValues(index < 0 ? points.length - 1 : index)}
            onPointerMove={(event) => {
              const { left, width } = event.currentTarget.getBoundingClientRect();
              setChosen(nearest(points, frame.from + ((event.clientX - left) / width) * span.length));
            }}
            onPointerLeave={() => setChosen(undefined)}
            onBlur={() => setChosen(undefined)}
            onKeyDown={(event) => {
              const next = moved(event.key, index < 0 ? points.length - 1 : index, points.length - 1);
              if (next === undefined) return;
              event.preventDefault();
              setChosen(points[next]?.at);
            }}
          />
        )}
        <span class="axis axis-from" aria-hidden="true">
          {span.from}
        </span>
        <span class="axis axis-to" aria-hidden="true">
          now
        </span>
      </div>
    </figure>
  );
}

/** Returns the time of the point that is nearest to a time. */
function nearest(points: readonly { at: number }[], time: number): number | undefined {
  const distance = (at: number) => Math.abs(at - time);
  return points.reduce<number | undefined>((best, { at }) => (best === undefined || distance(at) < distance(best) ? at : best), undefined);
}

/** Returns where a key moves to, or `undefined` if it does not move. */
function moved(key: string, index: number, last: number): number | undefined {
  switch (key) {
    case "ArrowLeft":
    case "ArrowDown":
      return Math.max(0, index - 1);
    case "ArrowRight":
    case "ArrowUp":
      return Math.min(last, index + 1);
    case "PageDown":
      return Math.max(0, index - 30);
    case "PageUp":
      return Math.min(last, index + 30);
    case "Home":
      return 0;
    case "End":
      return last;
    default:
      return undefined;
  }
}
