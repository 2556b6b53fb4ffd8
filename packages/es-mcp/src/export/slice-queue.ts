/** A slice that is begun, and the sort values of the last document that was taken from it. */
export interface SlicePlace {
  readonly slice: number;
  after: unknown[] | null;
}

/** Which slices of a point in time are done, begun and left, in a form that a checkpoint can keep. */
export class SliceQueue {
  readonly #reading: SlicePlace[];
  readonly #taken = new Set<SlicePlace>();
  #nextSlice: number;

  constructor(left: { reading: readonly Readonly<SlicePlace>[]; nextSlice: number } = { reading: [], nextSlice: 0 }) {
    this.#reading = left.reading.map((place) => ({ ...place }));
    this.#nextSlice = left.nextSlice;
  }

  /** A slice that nobody reads, one that an earlier process has begun before others; undefined once none of `slices` is left. */
  take(slices: number): SlicePlace | undefined {
    let place = this.#reading.find((candidate) => !this.#taken.has(candidate));
    if (place === undefined && this.#nextSlice < slices) {
      place = { slice: this.#nextSlice++, after: null };
      this.#reading.push(place);
    }
    if (place !== undefined) this.#taken.add(place);
    return place;
  }

  /** Takes note that a slice has no more documents. */
  done(place: SlicePlace): void {
    this.#reading.splice(this.#reading.indexOf(place), 1);
    this.#taken.delete(place);
  }

  /** What another queue goes on from. */
  checkpoint(): { reading: SlicePlace[]; next_slice: number } {
    return { reading: this.#reading.map((place) => ({ ...place })), next_slice: this.#nextSlice };
  }
}
