// Draws the diagrams of a page in the colours of its theme. No other host is involved.
(() => {
  const dark = ["coal", "navy", "ayu"].some((theme) => document.documentElement.classList.contains(theme));
  for (const code of document.querySelectorAll("code.language-mermaid")) {
    const diagram = document.createElement("pre");
    diagram.className = "mermaid";
    diagram.textContent = code.textContent;
    code.parentElement.replaceWith(diagram);
  }
  mermaid.initialize({ startOnLoad: true, theme: dark ? "dark" : "default", securityLevel: "strict" });
})();
