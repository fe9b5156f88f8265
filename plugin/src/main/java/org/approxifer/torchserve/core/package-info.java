/**
 * When and where: grouping, hand-out, lateness, quorum and settlement of the queries of one model.
 *
 * <pre>
 *  Client ──offer──▶ Router ──▶ Backlog ──take──▶ Assignment ──▶ (a worker)
 *    ▲                 │  ▲                                            │
 *    └──── settle ─────┘  └────────── answered / failed ◀──────────────┘
 *
 *  Group: queries coded together      Lateness, ExtraWork, Ledger: judge the workers
 *  Timers: late, group delay          guard(): finds what nobody calls back
 * </pre>
 *
 * <p>Nothing here knows TorchServe's queue, threads or sockets; of its classes only the request
 * message is used. All state of a model is guarded by its {@link
 * org.approxifer.torchserve.core.Router}'s one lock; clients are called after it is released.
 */
package org.approxifer.torchserve.core;
