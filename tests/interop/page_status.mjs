// Statuses of users, in real Chromium pages.
import assert from "node:assert/strict";
import { test } from "node:test";
import { violations } from "./axe.mjs";
import { DESK, PHONE, client, make, must, noComplaints, signIn } from "./page_support.mjs";

/** The entry of a user with this status in the list of present users. */
const shown = ({ page }, userId, status) => page.locator(`li.person[data-user="${userId}"][data-status=${status}]`);

for (const [where, viewport] of Object.entries({ desk: DESK, phone: PHONE })) {
  for (const colorScheme of ["light", "dark"]) {
    test(`a user sets a status by keyboard, others see it, at a ${where} in ${colorScheme}`, async (t) => {
      const self = `${where}-${colorScheme}`;
      const [sub, other] = [`ada-status-${self}`, `bob-status-${self}`];
      const bob = await client(t, other, "Bob Status");
      const id = await make(bob, undefined, [sub], "hello");
      await must(bob, "join_conversation", id);
      const ada = await signIn(t, sub, "Ada Status", { viewport, colorScheme });
      const second = await signIn(t, sub, "Ada Status");
      const { page } = ada;
      await page.getByRole("heading", { name: "Bob Status" }).waitFor();
      const checkLook = async (name) => {
        assert.deepEqual(await violations(ada), [], name);
        await ada.screenshot(`status-${self}-${name}`);
      };
      const list = async () => {
        if (where === "phone") await page.getByRole("link", { name: "All conversations" }).press("Enter");
        // A key for a hidden element would go to the focused element.
        await page.locator(".self").waitFor();
      };

      await list();
      await page.locator(".self").press("Enter");
      await page.getByRole("dialog", { name: "Your status" }).waitFor();
      await page.getByRole("radio", { name: "Busy" }).focus();
      await page.keyboard.press("Space");
      await page.getByLabel("What you are doing").focus();
      await page.keyboard.type("x".repeat(81));
      await page.getByText("1 characters too long").waitFor();
      assert.equal(await page.getByRole("button", { name: "Save" }).isDisabled(), true);
      await page.keyboard.press("Control+a");
      await page.keyboard.type("writing, back at \u05d0 5");
      await checkLook("dialog");
      await page.keyboard.press("Enter");
      await page.getByRole("dialog").waitFor({ state: "detached" });
      await page.locator(".self .user-status.is-busy").waitFor();
      await page.locator(".self-kind").getByText("writing, back at").waitFor();
      // The other tab was notified, and a new tab reads it.
      await second.page.locator(".self .user-status.is-busy").waitFor();
      // On a phone the list is a screen of its own, and is restored as such.
      await page.reload();
      await page.locator(".self .user-status.is-busy").waitFor();

      // Another user's status is shown in the list of conversations and among the present users.
      await must(bob, "set_status", { status: "away", text: "at lunch" });
      await page.locator("a.conversation").filter({ hasText: "Bob Status" }).locator(".user-status.is-away").waitFor();
      await checkLook("list");
      await page.locator("a.conversation").filter({ hasText: "Bob Status" }).press("Enter");
      await page.getByRole("heading", { name: "Bob Status" }).waitFor();
      if (where === "phone") await page.getByRole("button", { name: "Who is here: 2 people" }).press("Enter");
      await shown(ada, other, "away").getByText("at lunch").waitFor();
      await shown(ada, sub, "busy").waitFor();
      await checkLook("people");
      await must(bob, "set_status", { status: "offline" });
      await shown(ada, other, "offline").waitFor();
      noComplaints(ada, second);
    });
  }
}

test("a status that is set during a disconnect is shown after the reconnect", async (t) => {
  const bob = await client(t, "bob-status-away", "Bob Away");
  const id = await make(bob, "Away", ["ada-status-away"], "hello");
  await must(bob, "join_conversation", id);
  const ada = await signIn(t, "ada-status-away", "Ada Away");
  await shown(ada, "bob-status-away", "online").waitFor();
  ada.link.cut();
  await ada.isOffline();
  await must(bob, "set_status", { status: "busy", text: "<b>W</b>".padEnd(80, "W") });
  ada.link.restore();
  await shown(ada, "bob-status-away", "busy").getByText("<b>W</b>").waitFor();
  assert.equal(await ada.page.evaluate(() => document.documentElement.scrollWidth), DESK.width);
  await ada.screenshot("status-hostile");
  noComplaints(ada);
});
