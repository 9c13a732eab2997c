import { lazyPart } from "../view/lazy.tsx";
import style from "./tools.css?url";

// The parts around messages that no first drawing needs. They are one file, which is loaded after
// signing in, so that they are available without the network.
const load = () => import("./tools.tsx");

export const Tools = lazyPart(() => load().then((file) => file.Tools), [style]);
export const PinBar = lazyPart(() => load().then((file) => file.PinBar), [style]);
export const Completion = lazyPart(() => load().then((file) => file.Completion), [style]);
