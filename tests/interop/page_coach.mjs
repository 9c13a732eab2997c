// A person asks the coach of the examples on the page: the answer grows in two windows, also after a
// reload, a second one stops on request, and a third one follows.
import assert from "node:assert/strict";
import { startCoach, startModel } from "./coach.mjs";
import { DESK, checkLook, client, everywhere, make, must, noComplaints, shared, signIn } from "./page_support.mjs";
import { until } from "./support.mjs";

everywhere("a coach answers in two windows, stops on request and answers again", async (t, { self, options }) => {
  const [ada, bob] = [`ada-coach-${self}`, `bob-coach-${self}`];
  const owner = await client(t, ada, "Ada");
  const id = await make(owner, `Coaching ${self}`, [bob, "coach"]);
  const model = await startModel(t);
  await startCoach(t, shared.server.url, { OPENAI_BASE_URL: model.url });
  await until(async () => (await must(owner, "join_conversation", { conversationId: id })).users.some(({ userId }) => userId === "coach"), "the coach");
  const asking = await signIn(t, ada, "Ada", { ...options, path: `/#/c/${id}` });
  const watching = await signIn(t, bob, "Bob", { viewport: DESK, path: `/#/c/${id}` });
  const both = [asking, watching];
  const growing = ({ page }) => page.locator("li.message").last();

  await asking.say("How do I begin?");
  const first = await model.asked(1);
  for (const visitor of both) await growing(visitor).getByText("Coach is writing…").waitFor();
  first.say("**Begin small.**\n\n1. Choose one habit.\n2. Do it every day.\n\n```\nhabit = ");
  for (const visitor of both) await growing(visitor).locator("pre").getByText("habit =").waitFor();
  await checkLook(asking, `coach-growing-${self}`);
  await watching.page.reload();
  await growing(watching).locator("pre").getByText("habit =").waitFor();
  first.say("walk(10)\n```\n\nThen tell me how it went.");
  for (const visitor of both) await growing(visitor).getByText("Then tell me how it went.").waitFor();
  first.end();
  for (const visitor of both) {
    await visitor.page.getByText("Coach is writing…").waitFor({ state: "hidden" });
    assert.equal(await growing(visitor).locator("pre").textContent(), "habit = walk(10)");
    assert.equal(await growing(visitor).locator("ol li").count(), 2);
  }
  await checkLook(asking, `coach-answered-${self}`);

  await asking.say("And then?");
  const second = await model.asked(2);
  second.say("A very long answer, with code:\n\n```\nhabit = ");
  await growing(watching).locator("pre").getByText("habit =").waitFor();
  await growing(watching).getByRole("button", { name: "Stop" }).click();
  await until(() => second.isClosed, "the model to be stopped");
  for (const visitor of both) {
    await growing(visitor).getByText("interrupted").waitFor();
    assert.equal(await growing(visitor).locator("pre").textContent(), "habit = ");
    assert.equal(await visitor.page.getByText("Coach is writing…").count(), 0);
  }
  await checkLook(asking, `coach-stopped-${self}`);

  await asking.say("In one word?");
  const third = await model.asked(3);
  third.say("Daily.");
  third.end();
  for (const visitor of both) {
    await growing(visitor).getByText("Daily.").waitFor();
    await visitor.page.getByText("Coach is writing…").waitFor({ state: "hidden" });
  }
  noComplaints(...both);
});
