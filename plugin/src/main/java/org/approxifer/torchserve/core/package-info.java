/**
 * When and where: grouping, hand-out, lateness, quorum and settlement of the queries of one model.
 *
 * <pre>
 *  Client ──offer──▶ Router ──▶ Backlog ──take──▶ Assignment ──▶ (a worker)
 *    ▲                 │  ▲                                            │
 *    └──── settle ─────┘  └────────── answered / failed ◀──────────────┘
 *
 *  Jobs: what workers have            QueryFlow, GroupFlow: what becomes of their answers
 *  Group: queries coded together      Lateness, ExtraWork, Ledger: tell how the workers do
 *  Timers: late, group delay          guard(): finds what nobody calls back
 *  Verifier, Probation: the seam behind which core.verify checks answers
 * </pre>
 *
 * <p>Nothing here knows TorchServe's queue, threads or sockets; of its classes only the request
 * message is used. All state of a model is guarded by its {@link
 * org.approxifer.torchserve.core.Router}'s one lock; clients are called after it is released.
 */
package org.approxifer.torchserve.core;
