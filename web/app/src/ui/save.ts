/** Has the browser download what is at an address; it takes the name from the answer. */
export function download(address: string, name?: string): void {
  const link = document.createElement("a");
  link.href = address;
  link.download = name ?? "";
  document.body.append(link);
  link.click();
  link.remove();
}

/** Has the browser save a text as a file. */
export function saveText(text: string, name: string, type: string): void {
  const address = URL.createObjectURL(new Blob([text], { type }));
  download(address, name);
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
