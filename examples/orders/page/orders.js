// The page of a customer, or of support for a customer: the orders, and each change of them live.
import { openChannels } from "./channels.js";

/** Milliseconds that the backend may take, and between attempts. */
const TIMEOUT = 10_000;
const RETRY_DELAY = 2_000;
const TEXTS = { placed: "Placed", shipped: "Shipped", delivered: "Delivered", cancelled: "Cancelled" };
/** What support and customers can do with an order, by its status. */
const SUPPORT_STEPS = { placed: ["ship", "cancel"], shipped: ["deliver"] };
const CUSTOMER_STEPS = { placed: ["cancel"] };

const element = (id) => document.getElementById(id);
const textOf = ({ status, place }) => (place === null ? TEXTS[status] : `${TEXTS[status]}, now in ${place}`);
const inUrl = encodeURIComponent;

/** Calls the backend. */
async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body && { "content-type": "application/json" },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT),
  });
  const answer = response.status === 204 ? undefined : await response.json();
  const isSignedOut = response.status === 401 && path !== "/login";
  if (isSignedOut) element("login").hidden = false; // This tells the user what to do.
  if (!response.ok) throw new Error(isSignedOut ? "" : (answer.detail[0].msg ?? answer.detail));
  return answer;
}

/** Acts for the user, who sees what went wrong. */
async function attempt(act) {
  element("problem").textContent = "";
  await act().catch(({ message }) => (element("problem").textContent = message));
}

/** Lets an event of a form or button act, and do nothing else. */
function on(type, target, act) {
  target.addEventListener(type, (event) => {
    event.preventDefault();
    attempt(() => act(target));
  });
}

on("submit", element("login"), async ({ user, password }) => {
  await call("POST", "/login", { user: user.value, password: password.value });
  location.reload();
});
on("click", element("logout"), async () => {
  await call("POST", "/logout");
  location.assign("/");
});
on("submit", element("place"), async (form) => {
  await call("POST", "/orders", { item: form.item.value });
  form.reset();
});
on("change", element("customers"), async ({ value }) => location.assign(`?customer=${inUrl(value)}`));

/** Shows the orders of a customer, to the customer or to support. */
function showOrders(customer, steps) {
  /** The shown orders by channel: `{article, version}`. */
  const shown = new Map();
  const newOrders = `orders:${customer}:new`;

  const follow = openChannels({
    fetchAccess: () => call("GET", `/token?customer=${inUrl(customer)}`),
    events: ["order:created", "order:updated"],
    received(channel, event, order) {
      if (event === "order:created") readOrders();
      else showChange(channel, order);
    },
    // What was missed of new orders does not matter: all are read.
    followed: (channel) => channel === newOrders && readOrders(),
    forgotten(channel) {
      shown.get(channel)?.article.querySelector("ol").replaceChildren();
      readOrders();
    },
    report(text) {
      element("connection").textContent = text;
      element("connection").dataset.isLive = text === "Live";
    },
  });
  follow(newOrders);
  readOrders();

  /** Reads all orders from the backend, and follows each. */
  async function readOrders() {
    try {
      const orders = await call("GET", `/orders?customer=${inUrl(customer)}`);
      for (const order of orders.reverse()) {
        const channel = `orders:${customer}:${order.id}`;
        showState(channel, order);
        follow(channel);
      }
    } catch {
      // The backend is down, or the user has to sign in again, which loads the page again.
      if (element("login").hidden) setTimeout(readOrders, RETRY_DELAY);
    }
  }

  /** Shows an order as the backend or an event reports it, unless it is shown in a newer state. */
  function showState(channel, order) {
    if (!shown.has(channel)) shown.set(channel, { article: addOrder(order), version: 0 });
    const entry = shown.get(channel);
    if (order.version <= entry.version) return;
    entry.version = order.version;
    entry.article.dataset.status = order.status;
    entry.article.querySelector(".status").textContent = textOf(order);
    entry.article.querySelector(".scan").hidden = steps !== SUPPORT_STEPS || order.status !== "shipped";
    entry.article.querySelector(".steps").replaceChildren(...(steps[order.status] ?? []).map((step) => stepButton(order, step)));
  }

  /** Adds a change to those of an order. */
  function showChange(channel, order) {
    showState(channel, order);
    const line = document.createElement("li");
    line.textContent = textOf(order);
    shown.get(channel).article.querySelector("ol").append(line);
  }
}

/** Adds an order to the page, above the older ones. */
function addOrder({ id, item }) {
  const article = element("order").content.cloneNode(true).firstElementChild;
  article.querySelector("h2").textContent = `${id}. ${item}`;
  on("submit", article.querySelector(".scan"), async (form) => {
    await call("POST", `/orders/${id}/scan`, { place: form.place.value });
    form.reset();
  });
  element("orders").prepend(article);
  return article;
}

function stepButton({ id }, step) {
  const button = document.createElement("button");
  button.textContent = step[0].toUpperCase() + step.slice(1);
  on("click", button, () => call("POST", `/orders/${id}/${step}`));
  return button;
}

await attempt(async () => {
  const { user, customers } = await call("GET", "/me");
  const isSupport = customers !== null;
  const customer = isSupport ? (new URLSearchParams(location.search).get("customer") ?? customers[0]) : user;
  document.querySelector("h1").textContent = `Orders of ${customer}`;
  element("logout").hidden = false;
  element("place").hidden = isSupport;
  element("choice").hidden = !isSupport;
  if (isSupport) element("customers").append(...customers.map((id) => new Option(id, id, false, id === customer)));
  showOrders(customer, isSupport ? SUPPORT_STEPS : CUSTOMER_STEPS);
});
