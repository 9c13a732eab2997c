import { useState } from "preact/hooks";

/** A column by which a table can be sorted. Unknown values come last in both directions. */
export interface Column<Row> {
  name: string;
  valueOf: (row: Row) => string | number | undefined;
}

/** The head of a column that sorts its table. */
export interface SortHead {
  name: string;
  sorted: "ascending" | "descending" | undefined;
  onSort: () => void;
}

/** Returns rows in the order of a column, which the user chooses with the heads. */
export function useSorted<Row>(rows: readonly Row[], columns: readonly Column<Row>[], first: number): { rows: readonly Row[]; heads: SortHead[] } {
  const [chosen, setChosen] = useState(first);
  const [isReversed, setIsReversed] = useState(false);
  const column = columns[chosen];
  if (column === undefined) return { rows, heads: [] };
  // Numbers begin with the largest, texts with the first.
  const isNumber = rows.some((row) => typeof column.valueOf(row) === "number");
  const isDescending = isNumber !== isReversed;
  const heads = columns.map(({ name }, index): SortHead => ({
    name,
    sorted: index === chosen ? (isDescending ? "descending" : "ascending") : undefined,
    onSort: () => {
      setChosen(index);
      setIsReversed(index === chosen && !isReversed);
    },
  }));
  return { rows: rows.toSorted((one, other) => compare(column.valueOf(one), column.valueOf(other), isDescending)), heads };
}

const texts = new Intl.Collator(undefined, { numeric: true });

/** Compares two values of a column. */
export function compare(one: string | number | undefined, other: string | number | undefined, isDescending: boolean): number {
  if (one === undefined || other === undefined) return Number(one === undefined) - Number(other === undefined);
  const order = typeof one === "number" && typeof other === "number" ? one - other : texts.compare(String(one), String(other));
  return isDescending ? -order : order;
}
