// Invitation links that make users members of conversations, in real Chromium pages.
import assert from "node:assert/strict";
import { client, everywhere, checkLook, make, must, noComplaints, shared, signIn, tokenOf } from "./page_support.mjs";
import { Visitor } from "./visitor.mjs";

/** The address of the page behind the link of another visitor. */
const at = ({ link }, address) => link.url + address.slice(address.indexOf("/#"));

everywhere("an invitation link shows the conversation and admits its users", async (t, { self: variant, options }) => {
  const self = `invite-${variant}`;
  const ada = await signIn(t, `ada-${self}`, `Ada ${self}`, { ...options, permissions: ["clipboard-read", "clipboard-write"] });
  const owner = await client(t, `ada-${self}`, `Ada ${self}`);
  await must(owner, "join_conversation", await make(owner, `Club ${self}`, [], "welcome to the club"));
  await ada.toList();
  await ada.page.reload();
  await ada.conversation(`Club ${self}`).press("Enter");
  await ada.page.getByRole("heading", { name: `Club ${self}` }).waitFor();
  await ada.page.getByRole("button", { name: "About this conversation" }).click();
  await ada.page.getByRole("button", { name: "Invite by link" }).click();
  await ada.page.getByText("The invitation link was copied.").waitFor();
  const address = await ada.page.evaluate(() => navigator.clipboard.readText());
  assert.equal(await ada.page.getByLabel(/^Valid until/).inputValue(), address);
  assert.match(address, /\/#\/i\/[\w-]{43}$/);
  await checkLook(ada, `${self}-owner`);

  // A visitor without a name must enter one first.
  const bob = await Visitor.open(t, shared.browser, shared.server.url, { ...options, path: address.slice(address.indexOf("/#")) });
  await bob.giveToken(tokenOf(`bob-${self}`, `Bob ${self}`));
  const dialog = bob.page.getByRole("dialog", { name: "Invitation" });
  await dialog.getByText(`Club ${self}`).waitFor();
  await dialog.getByText("1 member.").waitFor();
  await checkLook(bob, `${self}-guest`);
  await dialog.getByRole("button", { name: "Join" }).press("Enter");
  await bob.page.getByRole("heading", { name: `Club ${self}` }).waitFor();
  await bob.message("welcome to the club").waitFor();
  await bob.say("thank you");
  await bob.message("thank you", "stored").waitFor();
  await ada.page.getByText("Members · 2").waitFor();

  // A member only opens the conversation; a visitor who declines ends up where the page would start
  // without the link.
  await bob.page.goto(at(bob, address));
  await dialog.getByText("You are already a member.").waitFor();
  await dialog.getByRole("button", { name: "Open" }).click();
  await bob.page.getByRole("heading", { name: `Club ${self}` }).waitFor();
  await bob.page.goto(at(bob, address));
  await dialog.getByText("You are already a member.").waitFor();
  await bob.page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });

  // Revoked links lead nowhere.
  await ada.page.getByRole("button", { name: "Revoke links" }).click();
  await ada.page.getByText("Earlier invitations are revoked.").waitFor();
  const eve = await signIn(t, `eve-${self}`, `Eve ${self}`, options);
  await eve.page.goto(at(eve, address));
  await eve.page.getByRole("dialog", { name: "Invitation" }).getByText("This invitation is invalid or has expired.").waitFor();
  await checkLook(eve, `${self}-revoked`);
  await eve.page.getByRole("dialog").getByRole("button", { name: "Close", exact: true }).last().click();
  await eve.page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal(await eve.conversation(`Club ${self}`).count(), 0);
  noComplaints(ada, bob, eve);
});
