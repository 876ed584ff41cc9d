/* Search from the file system: browsers start no worker from a file, so a hidden frame does its work. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = `<script src="${new URL(url, document.baseURI).href}"><\/script>`;
      this.ready = new Promise((resolve) => this.frame.addEventListener("load", resolve));
      document.body.append(this.frame);
    }

    postMessage(data) {
      this.ready.then(() => {
        const inside = this.frame.contentWindow;
        inside.postMessage = (answer) => this.dispatchEvent(new MessageEvent("message", { data: answer }));
        inside.dispatchEvent(new MessageEvent("message", { data }));
      });
    }
  };
}
